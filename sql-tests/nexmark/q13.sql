-- Every bid with what the side table says at that moment.
CREATE MATERIALIZED VIEW q13 AS
SELECT b.auction, b.bidder, b.price, b.dateTime, s.`value`
FROM (SELECT *, MOD(auction, 100) AS side FROM bid) AS b
JOIN side_input FOR SYSTEM_TIME AS OF b.p_time AS s ON b.side = s.key;
