import { expect, it } from 'vitest'
import { placesOfFigures } from '../src/ui/insight/charts'

it('figures on bars run neither into one another nor out of the chart', () => {
  // Ten bars of 40 px: a figure of seven characters is 49 px wide.
  const words = (count: number): string[] => Array.from({ length: count }, () => '$0.0012')
  const sums = [1, 1, 0, 1, 1, 1, 1, 1, 9, 1]
  const places = placesOfFigures(sums, words(10), 400)
  expect(places[8]).toBe(340)
  expect([places[7], places[9], places[2]]).toEqual([null, null, null])
  const shown = places.filter((at) => at !== null)
  expect(shown.length).toBeGreaterThan(3)
  shown.forEach((at, place) => {
    expect(at - 24.5).toBeGreaterThanOrEqual(0)
    expect(at + 24.5).toBeLessThanOrEqual(400)
    if (place > 0) expect(at - (shown[place - 1] ?? 0)).toBeGreaterThanOrEqual(49)
  })
  expect(placesOfFigures([2], ['$0.000001234'], 40)).toHaveLength(1)
  expect(placesOfFigures([], [], 400)).toEqual([])
  expect(placesOfFigures([1, 2], ['1', '2'], 400)).toEqual([100, 300])
})
