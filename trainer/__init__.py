"""From human reviews to data sets, from data sets to adapters. Workers never import it."""
