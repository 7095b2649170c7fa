-- Flink 1.20 flushes what it has buffered at multiples of the window's size, as if there were no offset: windows close without a part of their rows.
SELECT window_start, window_end, COUNT(*) AS n, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '3' SECOND))
GROUP BY window_start, window_end
