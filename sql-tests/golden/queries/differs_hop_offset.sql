-- As with TUMBLE and an offset: Flink 1.20 closes windows without a part of their rows.
SELECT window_start, window_end, COUNT(*) AS n, SUM(price) AS total
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '4' SECOND, INTERVAL '12' SECOND, INTERVAL '-1' SECOND))
GROUP BY window_start, window_end
