SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(d.ts) AS first_try, LAST(d.id) AS last_try, a.id AS approved, a.amount AS amount, MATCH_ROWTIME() AS seen
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (d{3} a) WITHIN INTERVAL '5' MINUTE
  DEFINE d AS d.status = 'declined', a AS a.status = 'approved'
)
