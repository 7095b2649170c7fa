SELECT window_start, window_end, k, id, price, place
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY price, id DESC) AS place
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '20' SECOND))
  WHERE price IS NOT NULL
)
WHERE place <= 3
