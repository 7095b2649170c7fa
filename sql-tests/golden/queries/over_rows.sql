SELECT id, k, ts, price,
  COUNT(*) OVER w AS n, SUM(price) OVER w AS total, MIN(price) OVER w AS low, MAX(price) OVER w AS high, FIRST_VALUE(price) OVER w AS opening, LAST_VALUE(lot) OVER w AS lot
FROM punctual
WINDOW w AS (PARTITION BY k ORDER BY ts ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)
