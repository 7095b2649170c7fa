SELECT id, k, ts, price - LAG(price) OVER (PARTITION BY k ORDER BY ts) AS rise, LAG(id, 2, CAST(-1 AS BIGINT)) OVER (PARTITION BY k ORDER BY ts) AS before_last
FROM punctual
