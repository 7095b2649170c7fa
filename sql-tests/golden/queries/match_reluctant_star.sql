SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES a.id AS a, COUNT(x.id) AS n, e.id AS e
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a x*? e) WITHIN INTERVAL '5' MINUTE
  DEFINE a AS a.status = 'declined', x AS x.amount < 80, e AS e.amount > 60
)
