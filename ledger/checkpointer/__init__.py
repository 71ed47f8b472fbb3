"""Signs what the log has become, as long as every place that knows the last checkpoint agrees.

records     where the last checkpoint is written outside the database: the anchor file and NATS
follower    reads the committed rows and judges them by the rules of the audit, before anything is signed
site        one site: ask every place, decide, sign, write in an order that any crash leaves whole
cosigning   the witnesses of one site, each in a task of its own
run         all sites, in the worker process
first       the first checkpoint, when a site is founded
command     what an operator sees and may put back
"""
