// Decodes CMCD with the Common Media Library: one JSON question a line on
// standard input, one JSON answer a line on standard output (cml.go has both).
import { createInterface } from 'node:readline';
import { decodeCmcd, encodeCmcd, fromCmcdQuery } from './cml-cmcd.mjs';

function typed(v) {
  if (typeof v === 'number') return { t: 'num', n: v };
  if (typeof v === 'string') return { t: 'str', s: v };
  if (typeof v === 'boolean') return { t: 'bool', b: v };
  if (typeof v === 'symbol') return { t: 'tok', s: v.description };
  if (v instanceof Date) return { t: 'date', n: v.getTime() / 1000 };
  if (v instanceof Uint8Array) return { t: 'bytes', s: Buffer.from(v).toString('base64') };
  if (Array.isArray(v)) return { t: 'list', items: v.map(typed) };
  if ('description' in v) return { t: 'tok', s: v.description };
  // An item with parameters.
  const x = typed(v.value);
  x.p = Object.fromEntries(Object.entries(v.params ?? {}).map(([k, p]) => [k, typed(p)]));
  return x;
}

function decode(q) {
  const o = { useSymbol: false };
  // As fromCmcdHeaders does, which takes no options and gives tokens as strings.
  if (q.headers) return Object.assign({}, ...Object.values(q.headers).map((h) => decodeCmcd(h, o)));
  if (q.query !== undefined) return fromCmcdQuery(q.query, o);
  return decodeCmcd(q.text, o);
}

function answer(q) {
  let data;
  try {
    data = decode(q);
  } catch (e) {
    return { err: e.message };
  }
  const out = { members: Object.fromEntries(Object.entries(data).map(([k, v]) => [k, typed(v)])) };
  if (q.encode) {
    try {
      out.encoded = encodeCmcd(data, { version: 2, reportingMode: q.encode });
    } catch (e) {
      out.encodeErr = e.message;
    }
  }
  return out;
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + '\n');
}
