-- Nulls are smaller than everything in Flink, and larger here, as in PostgreSQL.
SELECT k, id, price
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY price, id) AS place FROM bid)
WHERE place <= 3
