SELECT window_start, window_end, COUNT(*) AS n, SUM(price) AS total, COUNT(DISTINCT k) AS ks
FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '12' SECOND))
GROUP BY window_start, window_end
