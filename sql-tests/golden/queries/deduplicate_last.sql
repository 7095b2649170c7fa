SELECT k, lot, id, price, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, lot ORDER BY ts DESC) AS place FROM bid)
WHERE place = 1
