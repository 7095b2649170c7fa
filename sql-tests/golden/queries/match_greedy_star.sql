SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES a.id AS a, COUNT(d.id) AS n, FIRST(d.id) AS d1, LAST(d.id) AS d2, e.id AS e
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a d* e)
  DEFINE a AS a.status = 'approved', d AS d.status = 'declined', e AS e.amount >= 50 AND e.status <> 'declined'
)
