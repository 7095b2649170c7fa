-- In Flink a late row joins a session that is still open; here it is late if it alone would be a session that has ended.
SELECT window_start, window_end, k, COUNT(*) AS n
FROM TABLE(SESSION(TABLE bid PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5.2' SECOND))
GROUP BY window_start, window_end, k
