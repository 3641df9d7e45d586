"""Runs of releases: the steps of a Build, and what is done to a Deployment (escape-state, 8 and 9).

Each run is a straight line of scripts and acts, noted one by one (`journal`), so that it can be gone through again
from its beginning after a kill: what is noted is not done twice.
"""
