// The fields of a question's form, from its schema: one level of text, numbers, yes or no, and choices.

import type { Json, Question } from '../../../client'

export interface Option {
  value: string
  label: string
}

export interface Field {
  name: string
  label: string
  about: string
  isRequired: boolean
  /** Of an `input`; or a choice of one, or of many. */
  kind: 'text' | 'email' | 'url' | 'date' | 'number' | 'one' | 'many'
  type: 'string' | 'number' | 'integer' | 'boolean' | 'array'
  options: Option[]
  limits: Record<string, number | string>
  initial: string | string[]
}

interface Schema {
  type?: Field['type']
  title?: string
  description?: string
  format?: string
  enum?: string[]
  enumNames?: string[]
  oneOf?: { const: string; title?: string }[]
  anyOf?: { const: string; title?: string }[]
  items?: Schema
  default?: unknown
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
}

const INPUTS: Record<string, Field['kind']> = { email: 'email', uri: 'url', date: 'date' }

export function fieldsOf({ requested_schema }: Question): Field[] {
  const { properties, required } = requested_schema as { properties?: Record<string, Schema>; required?: string[] }
  return Object.entries(properties ?? {}).map(([name, schema]) => fieldOf(name, schema, required?.includes(name) ?? false))
}

function fieldOf(name: string, schema: Schema, isRequired: boolean): Field {
  const type = schema.type ?? 'string'
  const many = type === 'array'
  const options = type === 'boolean' ? YES_OR_NO : optionsOf(many ? (schema.items ?? {}) : schema)
  return {
    name,
    label: schema.title ?? name,
    about: schema.description ?? '',
    isRequired,
    type,
    kind: many ? 'many' : options.length > 0 ? 'one' : type === 'string' ? (INPUTS[schema.format ?? ''] ?? 'text') : 'number',
    options,
    limits: limitsOf(type, schema),
    initial: many ? listed(schema.default) : schema.default == null ? '' : String(schema.default),
  }
}

const YES_OR_NO: Option[] = [
  { value: 'true', label: 'Yes' },
  { value: 'false', label: 'No' },
]

function optionsOf(schema: Schema): Option[] {
  const titled = schema.oneOf ?? schema.anyOf
  if (titled !== undefined) return titled.map((one) => ({ value: one.const, label: one.title ?? one.const }))
  return (schema.enum ?? []).map((value, index) => ({ value, label: schema.enumNames?.[index] ?? value }))
}

function limitsOf(type: Field['type'], { minimum, maximum, minLength, maxLength }: Schema): Field['limits'] {
  const told = type === 'string' ? { minlength: minLength, maxlength: maxLength } : { min: minimum, max: maximum, step: type === 'integer' ? 1 : 'any' }
  return Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined)) as Field['limits']
}

function listed(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : []
}

/** The content of an answer. A field that was left empty and need not be filled in is left out. */
export function contentOf(fields: readonly Field[], values: Record<string, string | string[]>): Record<string, Json> {
  const content: Record<string, Json> = {}
  for (const field of fields) {
    const value = values[field.name] ?? field.initial
    if (value.length > 0 || field.isRequired) content[field.name] = typed(field, value)
  }
  return content
}

function typed(field: Field, value: string | string[]): Json {
  if (Array.isArray(value)) return value
  if (field.type === 'boolean') return value === 'true'
  return field.type === 'number' || field.type === 'integer' ? Number(value) : value
}
