// Package product owns the catalogue of the shop and its stock, and sells from it as a branch of a transaction.
//
// Its invariants, each also a constraint of the schema or a test:
//
//   - A product's pieces are available, held or sold, and none of the three is ever below zero.
//
//   - Only an adjustment changes how many pieces there are; a sale and a restock move them about:
//
//     sale:     available ──prepare──▶ held ──commit──▶ sold         abort: held ──▶ available
//     restock:  sold      ──prepare──▶ held ──commit──▶ available    abort: held ──▶ sold
//
//   - Every change of a stock leaves a movement in the same statement, so the movements add up to the stock.
//
//   - An order gives back no more than it took.
//
//   - A product's version counts its changes, every version is kept, and nobody changes a version they have not seen.
//
//   - Nothing is deleted: a product that is no longer sold is archived. Orders go on showing it.
package product
