SELECT lot, k, id, price
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY lot, k ORDER BY price, id) AS place FROM bid WHERE price IS NOT NULL)
WHERE place <= 4
