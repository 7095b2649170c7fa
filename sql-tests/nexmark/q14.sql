-- Calculations, one of them by a function of our own.
CREATE FUNCTION count_char(s STRING, c STRING) RETURNS BIGINT LANGUAGE SQL AS 'SELECT CHAR_LENGTH(s) - CHAR_LENGTH(REPLACE(s, c, ''''))';

CREATE MATERIALIZED VIEW q14 AS
SELECT auction, bidder, 0.908 * price AS price,
  CASE
    WHEN HOUR(dateTime) >= 8 AND HOUR(dateTime) <= 18 THEN 'dayTime'
    WHEN HOUR(dateTime) <= 6 OR HOUR(dateTime) >= 20 THEN 'nightTime'
    ELSE 'otherTime'
  END AS bidTimeType,
  dateTime, extra, count_char(extra, 'c') AS c_counts
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
