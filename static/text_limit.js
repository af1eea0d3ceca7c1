/** How long a message may be. */

export const MOST_BYTES = 12_000;
const ENCODER = new TextEncoder();

/** The length that counts: of the text as it is sent, in UTF-8. */
export function bytesOf(text) {
  return ENCODER.encode(text).length;
}

export function wordsForBytes(bytes) {
  const numbers = `${bytes.toLocaleString("en")} of ${MOST_BYTES.toLocaleString("en")} bytes`;
  return bytes > MOST_BYTES ? `Too long: ${numbers}` : numbers;
}
