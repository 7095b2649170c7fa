-- Average of the winning prices of a seller's last auctions, as each of them ends.
CREATE MATERIALIZED VIEW q6 AS
SELECT won.seller, won.id,
  AVG(won.price) OVER (PARTITION BY won.seller ORDER BY won.dateTime ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS average
FROM (
  SELECT * FROM (
    SELECT offered.*, ROW_NUMBER() OVER (PARTITION BY offered.id, offered.seller ORDER BY offered.price DESC, offered.dateTime) AS place
    FROM (
      SELECT a.id, a.seller, b.price, b.dateTime
      FROM auction AS a, bid AS b
      WHERE a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires
    ) AS offered
  ) AS ranked
  WHERE place <= 1
) AS won;
