SELECT p.id, p.currency, p.amount, r.rate
FROM purchases AS p LEFT JOIN rates FOR SYSTEM_TIME AS OF p.ts AS r ON p.currency = r.currency
