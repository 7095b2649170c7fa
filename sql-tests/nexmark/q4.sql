-- Average of the winning prices in each category.
CREATE MATERIALIZED VIEW q4 AS
SELECT won.category, AVG(won.final) AS average
FROM (
  SELECT MAX(b.price) AS final, a.category
  FROM auction AS a, bid AS b
  WHERE a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires
  GROUP BY a.id, a.category
) AS won
GROUP BY won.category;
