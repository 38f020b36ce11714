// Drives one bittorrent-dht node for the real-client tests.
//
// Reads one JSON object per line from standard input: {"do": NAME, ...arguments}. Writes one per line to standard
// output: {"ok": true, ...results} or {"ok": false, "error": TEXT, "code": NUMBER}. Bytes travel as hexadecimal text.
// The first line written says {"ok": true} once the node listens.
//
// Arguments: the bootstrap node as IP:PORT, own IP, own port.

import crypto from 'node:crypto'
import readline from 'node:readline'
import { Client } from 'bittorrent-dht'

const unhex = (text) => Buffer.from(text, 'hex')
const hex = (bytes) => Buffer.from(bytes).toString('hex')

// DER prefixes of Ed25519 keys (RFC 8410).
const spki = unhex('302a300506032b6570032100')
const pkcs8 = unhex('302e020100300506032b657004220420')

const verify = (sig, message, k) => crypto.verify(null, message,
  crypto.createPublicKey({ key: Buffer.concat([spki, k]), format: 'der', type: 'spki' }), sig)
const signer = (seed) => (message) => crypto.sign(null, message,
  crypto.createPrivateKey({ key: Buffer.concat([pkcs8, unhex(seed)]), format: 'der', type: 'pkcs8' }))

const [bootstrap, ip, port] = process.argv.slice(2)
const dht = new Client({ bootstrap: [bootstrap], verify })

const commands = {
  ready ({ nodes }) {
    return new Promise((resolve) => {
      const check = () => {
        const count = dht.nodes.toArray().length
        if (!dht.ready || count < nodes) return
        dht.off('node', check)
        dht.off('ready', check)
        resolve({ nodes: count })
      }
      dht.on('node', check)
      dht.on('ready', check)
      check()
    })
  },
  put_immutable ({ value }) {
    return put({ v: unhex(value) })
  },
  put_mutable ({ seed, public: k, value, salt, seq, cas }) {
    const opts = { v: unhex(value), k: unhex(k), seq, sign: signer(seed) }
    if (salt) opts.salt = unhex(salt)
    if (cas !== undefined) opts.cas = cas
    return put(opts)
  },
  get ({ target, salt }) {
    return new Promise((resolve, reject) => {
      dht.get(unhex(target), { cache: false, salt: salt && unhex(salt) }, (err, item) => {
        if (err) return reject(err)
        if (!item) return reject(new Error('no item'))
        resolve({ value: hex(item.v), seq: item.seq })
      })
    })
  },
  announce ({ infohash, port }) {
    return new Promise((resolve, reject) => {
      dht.announce(unhex(infohash), port, (err) => err ? reject(err) : resolve({}))
    })
  },
  lookup ({ infohash }) {
    return new Promise((resolve, reject) => {
      const peers = new Set()
      const found = (peer, hash) => { if (hex(hash) === infohash) peers.add(`${peer.host}:${peer.port}`) }
      dht.on('peer', found)
      dht.lookup(unhex(infohash), (err) => {
        dht.off('peer', found)
        err ? reject(err) : resolve({ peers: [...peers] })
      })
    })
  }
}

// put uses the tokens of the last put with the same target, if there was one, at the same nodes.
function put (opts) {
  return new Promise((resolve, reject) => {
    const target = dht.put(opts, (err, key, stored) => {
      err ? reject(err) : resolve({ target: hex(target), stored })
    })
  })
}

dht.on('error', (err) => { console.error(err); process.exit(1) })
dht.on('warning', (err) => console.error(err.message))
dht.listen(Number(port), ip, async () => {
  reply({ ok: true })
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: name, ...args } = JSON.parse(line)
    try {
      reply({ ok: true, ...await commands[name](args) })
    } catch (err) {
      reply({ ok: false, error: err.message, code: err.code })
    }
  }
  dht.destroy()
})

function reply (object) { process.stdout.write(JSON.stringify(object) + '\n') }
