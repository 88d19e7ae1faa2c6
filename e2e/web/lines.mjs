// JSON lines on stdin and stdout: how the tests talk to the programs in this folder.
//
// Standard output carries nothing else. What people may want to read goes to standard error, which is the log.

import { createInterface } from "node:readline";

/** The lines of stdin as values; ends when the test closes it or has ended. */
export async function* values() {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() !== "") yield JSON.parse(line);
  }
}

/** Writes one value as a line. */
export function answer(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Writes a line to the log. */
export function log(text) {
  process.stderr.write(`${text}\n`);
}
