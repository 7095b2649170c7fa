-- Flink drops rows that come late for an OVER window and never changes a result; here the view follows every row.
SELECT id, k, ts, COUNT(*) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) AS n
FROM bid
