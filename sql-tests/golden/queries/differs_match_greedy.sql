-- A greedy variable of Flink gives no row back: a row that is a u as well is never the e. Here, as in the standard, the last u can be.
SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES a.id AS a, COUNT(u.id) AS n, e.id AS e
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a u+ e)
  DEFINE a AS a.status = 'declined', u AS u.status <> 'declined', e AS e.amount > 70
)
