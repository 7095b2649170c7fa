SELECT window_start, window_end, k, lot, COUNT(*) AS n, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, GROUPING SETS ((k), (lot), ())
