import { Injectable, type PipeTransform } from '@nestjs/common';
import { validate } from 'uuid';
import { Problem } from './problem.js';

/** An id in a path. What is no UUID names nothing, which is the same 404 as an id that nobody has. */
@Injectable()
export class IdParam implements PipeTransform<string, string> {
  transform(value: string): string {
    if (!validate(value)) throw Problem.notFound();
    return value.toLowerCase();
  }
}
