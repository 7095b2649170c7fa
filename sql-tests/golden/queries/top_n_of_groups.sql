SELECT k, lot, total, place
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY total DESC, lot) AS place
  FROM (SELECT k, lot, SUM(price) AS total FROM punctual GROUP BY k, lot)
)
WHERE place <= 2
