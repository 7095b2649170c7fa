SELECT window_start, window_end, k, total, n, place
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY total DESC, k) AS place
  FROM (
    SELECT window_start, window_end, k, SUM(price) AS total, COUNT(*) AS n
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '20' SECOND))
    WHERE price IS NOT NULL
    GROUP BY window_start, window_end, k
  )
)
WHERE place <= 2
