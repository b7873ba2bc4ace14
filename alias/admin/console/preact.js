// Preact and htm behind one name: html`<${Component} prop=${value} />` makes a node, and
// puts every string into the page as text.
import { h, render, createContext } from './vendor/preact.mjs';
import htm from './vendor/htm.mjs';

export * from './vendor/hooks.mjs';
export { createContext, render };
export const html = htm.bind(h);
