-- The ten highest bids on each auction. Of equal bids the earlier one comes first, so that there is one result.
CREATE MATERIALIZED VIEW q19 AS
SELECT auction, bidder, price, channel, url, dateTime, extra, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, dateTime) AS place FROM bid) AS ranked
WHERE place <= 10;
