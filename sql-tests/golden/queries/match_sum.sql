SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES COUNT(a.id) AS n, SUM(a.amount) AS total, b.id AS b
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a+ b)
  DEFINE a AS SUM(a.amount) < 150, b AS SUM(a.amount) + b.amount >= 150
)
