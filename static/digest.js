/** Proof that a text is the one that was announced: its length, and its SHA-256. */

import { countCodePoints } from "./run.js";

const ENCODER = new TextEncoder();

/**
 * Whether `text` has `chars` code points and the digest `sha256` (hex, over its UTF-8). What is
 * not given is not compared; browsers offer no digest to a page that came over plain HTTP from
 * another machine, and then the length has to do.
 */
export async function isExact(text, { chars, sha256 }) {
  if (chars !== undefined && countCodePoints(text) !== chars) return false;
  if (sha256 === undefined || globalThis.crypto.subtle === undefined) return true;
  return (await hexDigest(text)) === sha256;
}

async function hexDigest(text) {
  const digest = await crypto.subtle.digest("SHA-256", ENCODER.encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
