// Parses the card of a message on standard input with Microsoft's own library, and prints what it finds wrong, as JSON.
const cards = require("adaptivecards/dist/adaptivecards.js");

const message = JSON.parse(require("fs").readFileSync(0, "utf-8"));
const context = new cards.SerializationContext(cards.Versions.v1_5);
const card = new cards.AdaptiveCard();
card.parse(message.attachments[0].content, context);
const faults = card.validateProperties().validationEvents.map((event) => event.message);
for (let index = 0; index < context.eventCount; index++) faults.push(context.getEventAt(index).message);
// Its own view of the card, with what it did not understand left out.
console.log(JSON.stringify({ faults, understood: card.toJSON() }));
