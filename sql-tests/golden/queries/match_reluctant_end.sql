SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES a.id AS a, COUNT(x.id) AS n, LAST(x.id) AS x
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a x{2,}?)
  DEFINE a AS a.status = 'declined', x AS x.status <> 'declined'
)
