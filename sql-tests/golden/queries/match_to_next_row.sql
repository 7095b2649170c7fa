SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(d.id) AS first_try, COUNT(d.id) AS tries, a.id AS approved
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO NEXT ROW
  PATTERN (d{2,} a) WITHIN INTERVAL '5' MINUTE
  DEFINE d AS d.status = 'declined', a AS a.status = 'approved'
)
