SELECT window_start, window_end, k, SUM(n) AS n, MAX(total) AS top, COUNT(*) AS windows
FROM TABLE(TUMBLE((
  SELECT window_time AS wt, k, COUNT(*) AS n, SUM(price) AS total
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND))
  GROUP BY window_start, window_end, window_time, k
), DESCRIPTOR(wt), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, k
