// Publishes packets through one pkarr relay and gets them from others, with the client of pkarr's own implementation in
// JavaScript: node client.mjs RELAY... (URLs, the first is that to publish at). Prints one JSON document.
import { Pkarr, SignedPacket, z32 } from 'pkarr'

const relays = process.argv.slice(2)
const pair = Pkarr.generateKeyPair(Buffer.alloc(32, 7))
const packet = text => ({
  id: 0, type: 'response', flags: 0,
  answers: [{ name: '_x', type: 'TXT', ttl: 3600, class: 'IN', data: text }]
})
const out = { key: z32.encode(pair.publicKey), put: [], got: [] }
const now = Date.now() * 1000
for (const [at, text] of [[now, 'first'], [now + 1, 'second'], [now, 'older']]) {
  const response = await Pkarr.relayPut(relays[0], SignedPacket.fromPacket(pair, packet(text), { timestamp: at }))
  out.put.push(response.status)
}
for (const relay of relays) {
  const signed = await Pkarr.relayGet(relay, pair.publicKey)
  out.got.push(String(signed.packet().answers[0].data))
}
out.micros = now
console.log(JSON.stringify(out))
process.exit(0) // its DHT node, which is not used, would keep it running
