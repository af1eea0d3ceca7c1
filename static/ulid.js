/** Ids made by the client: sortable by time, unique without asking the server. */

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TIME_LENGTH = 10;
const RANDOM_LENGTH = 16;

/** A new ULID: 48 bits of `nowMs`, then 80 random bits, in Crockford's base 32. */
export function newUlid(nowMs = Date.now()) {
  let time = "";
  let rest = nowMs;
  for (let position = 0; position < TIME_LENGTH; position += 1) {
    time = ALPHABET[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  const bytes = crypto.getRandomValues(new Uint8Array(RANDOM_LENGTH));
  return time + Array.from(bytes, (byte) => ALPHABET[byte % 32]).join("");
}
