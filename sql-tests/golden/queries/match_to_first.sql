SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(d.id) AS d1, COUNT(d.id) AS ds, FIRST(p.id) AS p1, LAST(p.id) AS p2, e.id AS e1
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO FIRST p
  PATTERN (s d+ p{2} e) WITHIN INTERVAL '5' MINUTE
  DEFINE s AS s.status <> 'declined', d AS d.status = 'declined', p AS p.status <> 'declined', e AS e.amount > 20
)
