SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(d.id) AS d1, COUNT(d.id) AS ds, LAST(p.id) AS p2
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO LAST d
  PATTERN (s d{2,3} p) WITHIN INTERVAL '5' MINUTE
  DEFINE s AS s.status <> 'declined', d AS d.status = 'declined', p AS p.status <> 'declined'
)
