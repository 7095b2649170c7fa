SELECT window_start, window_end, k, COUNT(*) AS n, COUNT(price) AS priced, SUM(price) AS total, MIN(price) AS low, MAX(price) AS high, COUNT(DISTINCT lot) AS lots
FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end, k
