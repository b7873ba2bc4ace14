// Every module can be loaded without a page, so its syntax and the names that it imports
// are right. main.js is the one that acts.
import { readdirSync } from 'node:fs';
import assert from 'node:assert/strict';
import test from 'node:test';

const root = new URL('../', import.meta.url);
const files = (dir) => readdirSync(new URL(dir, root)).filter((f) => f.endsWith('.js')).map((f) => dir + f);

for (const file of [...files('./'), ...files('./screens/')]) {
  if (file === './main.js') continue;
  test(`load ${file}`, async () => {
    const module = await import(new URL(file, root));
    if (file.startsWith('./screens/')) assert.ok(module.default || module.SignIn, 'a screen exports a component');
  });
}
