/** The kind of the jobs that deliver messages. */
export const DELIVER_JOB = 'webhook.deliver';

export interface DeliverPayload {
  deliveryId: string;
}
