SELECT window_start, window_end, k, COUNT(*) AS n, COUNT(price) AS priced, SUM(price) AS total, MIN(price) AS low, MAX(price) AS high, COUNT(DISTINCT lot) AS lots
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, k
