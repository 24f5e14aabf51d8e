import { SetMetadata } from '@nestjs/common';

export const UNLIMITED = 'unlimited';

/** For controllers that somebody has to be able to ask at any time, such as probes of a load balancer. */
export const Unlimited = (): ClassDecorator => SetMetadata(UNLIMITED, true);
