SELECT k, id, price, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY price DESC) AS place FROM punctual)
WHERE place <= 5
