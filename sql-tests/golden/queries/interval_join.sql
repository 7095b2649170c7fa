SELECT o.id, o.item, s.id AS shipment, o.ts AS ordered, s.ts AS shipped
FROM orders AS o JOIN shipments AS s
ON o.id = s.order_id AND s.ts BETWEEN o.ts AND o.ts + INTERVAL '10' SECOND
