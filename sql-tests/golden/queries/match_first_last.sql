SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(a.id, 1) AS a2, LAST(a.id, 1) AS last_but_one, b.id AS b, MIN(a.amount) AS low, MAX(a.amount) AS high
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a{2,4} b)
  DEFINE a AS a.status = 'approved', b AS b.status <> 'approved' AND b.amount < FIRST(a.amount)
)
