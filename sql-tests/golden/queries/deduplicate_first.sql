SELECT k, lot, id, price, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, lot ORDER BY ts) AS place FROM punctual)
WHERE place = 1
