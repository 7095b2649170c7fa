-- Flink 1.20 forgets the FILTER of a COUNT(*) beside a DISTINCT aggregate over a window, and counts all rows.
SELECT window_start, window_end, COUNT(*) FILTER (WHERE price > 500) AS dear, SUM(DISTINCT lot) AS lots, MAX(k) AS k
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '7' SECOND))
WHERE lot <> 1
GROUP BY window_start, window_end
HAVING COUNT(*) > 1
