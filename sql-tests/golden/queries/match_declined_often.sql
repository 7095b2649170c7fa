SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES COUNT(d.id) AS tries, SUM(d.amount) AS tried, FIRST(d.id) AS first_try, a.id AS approved
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (d{3,} a) WITHIN INTERVAL '5' MINUTE
  DEFINE d AS d.status = 'declined', a AS a.status = 'approved'
)
